// swift-tools-version: 6.3
// The package: which modules there are, what each may import, and how strictly it is compiled.
// Imports point down only (docs/architecture.md); Tests/TidyTests holds the laws.
import PackageDescription

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableExperimentalFeature("Lifetimes"),
]
let memorySafe = strict + [.strictMemorySafety()]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser")

func core(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(
    _ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []
) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["LinuxIO"], exclude: exclude,
        swiftSettings: strict)
}

let package = Package(
    name: "clickd",
    products: [
        .executable(name: "clickd", targets: ["clickd"]),
        .executable(name: "attributiond", targets: ["attributiond"]),
        .executable(name: "clickctl", targets: ["clickctl"]),
        .executable(name: "clickd-workbench", targets: ["clickd-workbench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        // C: what Swift cannot import, and the system's libraries.
        .target(name: "CLinux", cSettings: [.unsafeFlags(["-O2", "-Wall", "-Werror"])]),
        .systemLibrary(name: "CLibPQ", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(
            name: "CMaxMindDB", pkgConfig: "libmaxminddb", providers: [.apt(["libmaxminddb-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),

        // Pure core: decides; no I/O, no clock, no Foundation.
        core("Tracking"),
        core("EdgeCore", ["Tracking"]),
        .target(name: "Attribution", dependencies: ["Tracking"], swiftSettings: memorySafe),

        // Adapters: one outside thing each.
        core("LinuxIO", ["CLinux"]),
        core("RingLog", ["LinuxIO", "CLinux", "Tracking"]),
        core("Postgres", ["CLibPQ", "LinuxIO", "Tracking"]),
        core("TLS", ["COpenSSL", "LinuxIO", "Tracking"]),
        core("GeoIP", ["CMaxMindDB", "LinuxIO", "Tracking"]),
        core("Schema", ["Postgres", "Tracking"]),
        core("Telemetry", ["LinuxIO", "Tracking", logging]),
        core("Configuration", ["CYAML", "LinuxIO", "Tracking"]),

        // Shells: threads, sockets, transactions.
        core(
            "EdgeServer",
            [
                "EdgeCore", "Tracking", "RingLog", "LinuxIO", "TLS", "GeoIP", "Telemetry",
                "Configuration",
            ]),
        core(
            "EdgeServices",
            [
                "EdgeCore", "Tracking", "RingLog", "Postgres", "Schema", "LinuxIO", "TLS",
                "Telemetry", "Configuration",
            ]),
        core(
            "EdgeDaemon",
            [
                "EdgeServer", "EdgeServices", "EdgeCore", "Tracking", "RingLog", "TLS", "GeoIP",
                "Postgres", "Telemetry", "Configuration", "LinuxIO", logging,
            ]),
        core(
            "AttributionService",
            [
                "Attribution", "Tracking", "Postgres", "Schema", "LinuxIO", "Telemetry",
                "Configuration", logging,
            ]),
        core(
            "OperatorCommands",
            [
                "Tracking", "EdgeCore", "Attribution", "AttributionService", "Postgres", "Schema",
                "LinuxIO", "TLS",
                "Telemetry", "Configuration", "RingLog", arguments,
            ]),
        core("Workbench", ["LinuxIO", "TLS", "Tracking", "EdgeCore", "RingLog"]),

        // Executables: wiring only.
        .executableTarget(
            name: "clickd",
            dependencies: [
                "EdgeDaemon", "Configuration", "Postgres", "Telemetry", "LinuxIO", arguments,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "attributiond",
            dependencies: [
                "AttributionService", "Telemetry", "Configuration", "Postgres", "LinuxIO",
                "Tracking", arguments, logging,
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "clickctl", dependencies: ["OperatorCommands", arguments], swiftSettings: strict),
        .executableTarget(
            name: "clickd-workbench",
            dependencies: ["Workbench", "LinuxIO", "Tracking", arguments], swiftSettings: strict),

        // Tests, one target a module, and what they share.
        tests("TrackingTests", ["Tracking"]),
        tests("EdgeCoreTests", ["EdgeCore", "Tracking", "TLS", "Workbench", "FuzzBodies"]),
        tests("AttributionTests", ["Attribution", "Tracking", "Workbench"]),
        tests(
            "RingLogTests", ["RingLog", "CLinux", "Tracking", "Workbench"], exclude: ["Golden"]),
        tests("PostgresTests", ["Postgres", "Schema", "Tracking", "Workbench"]),
        tests(
            "AdapterTests",
            [
                "TLS", "GeoIP", "Telemetry", "Configuration", "OperatorCommands", "Tracking",
                "Workbench",
            ]),
        tests(
            "EdgeServicesTests",
            [
                "EdgeServices", "EdgeCore", "RingLog", "Postgres", "Schema", "Tracking",
                "Workbench", "TLS", "Telemetry", "Configuration",
            ]),
        .target(
            name: "FuzzBodies", dependencies: ["EdgeCore", "Tracking"], path: "Fuzz/Bodies",
            swiftSettings: strict),
        .target(name: "CMallocCounter", path: "Tests/CMallocCounter"),
        tests(
            "EdgeServerTests",
            [
                "EdgeServer", "EdgeCore", "RingLog", "Tracking", "TLS", "Telemetry",
                "Configuration", "CMallocCounter", "Workbench",
            ]),
        tests(
            "AttributionServiceTests",
            [
                "AttributionService", "Attribution", "Postgres", "Schema", "Tracking", "Workbench",
                "Configuration", "Telemetry",
            ]),
        tests("EndToEndTests", ["Workbench", "Tracking", "Postgres", "TLS"]),
        tests("TidyTests", []),
    ],
    swiftLanguageModes: [.v6]
)
