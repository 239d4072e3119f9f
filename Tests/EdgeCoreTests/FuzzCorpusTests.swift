// The saved corpus of the fuzzers, through the same bodies, without a sanitizer.
import FuzzBodies
import LinuxIO
import Testing
import Workbench

@Suite("The fuzzers' corpus")
struct FuzzCorpusTests {
    private static let root: String = {
        if let root = CurrentProcess.environment("CLICKD_ROOT") { return root }
        var path = #filePath
        while path.count > 1, !FileSystem.exists("\(path)/Package.swift") {
            path = FileSystem.directory(of: path)
        }
        return path
    }()

    private func inputs(_ target: FuzzTarget) -> [[UInt8]] {
        let folder = "\(FuzzCorpusTests.root)/Fuzz/Corpus/\(target.rawValue)"
        let names = (try? FileSystem.list(folder)) ?? []
        return names.sorted().compactMap { try? FileSystem.read("\(folder)/\($0)") }
    }

    @Test("Each saved input holds what its body demands", arguments: FuzzTarget.allCases)
    func saved(_ target: FuzzTarget) {
        let bodies = FuzzBodies()
        let inputs = inputs(target)
        #expect(inputs.count >= 10)
        for input in inputs {
            let problem = input.withUnsafeBytes { bodies.run(target, $0) }
            #expect(problem == nil, "\(input)")
        }
    }

    @Test("So do mutations of them", arguments: FuzzTarget.allCases)
    func mutated(_ target: FuzzTarget) {
        let bodies = FuzzBodies()
        let inputs = inputs(target)
        var random = SeededGenerator(seed: 0xF022)
        for _ in 0..<2000 {
            guard var input = inputs.randomElement(using: &random) else { return }
            for _ in 0..<Int.random(in: 1...4, using: &random) where !input.isEmpty {
                let index = Int.random(in: 0..<input.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: input[index] = UInt8.random(in: 0...255, using: &random)
                case 1: input.remove(at: index)
                default: input.insert(UInt8.random(in: 0...255, using: &random), at: index)
                }
            }
            let problem = input.withUnsafeBytes { bodies.run(target, $0) }
            #expect(problem == nil, "\(input)")
        }
    }
}
