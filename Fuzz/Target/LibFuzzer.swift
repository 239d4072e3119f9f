// The entry that libFuzzer calls; FUZZ_TARGET names the body. Built by `make fuzz` only.
import EdgeCore
import FuzzBodies
import Glibc

// libFuzzer calls from one thread.
nonisolated(unsafe) private let bodies = FuzzBodies()
private let target: FuzzTarget = {
    let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
    guard let target = FuzzTarget(rawValue: name) else {
        fatalError("FUZZ_TARGET: one of \(FuzzTarget.allCases.map(\.rawValue))")
    }
    return target
}()

/// One execution.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ data: UnsafeRawPointer?, _ count: Int) -> CInt {
    if let problem = bodies.run(target, UnsafeRawBufferPointer(start: data, count: count)) {
        fatalError("\(target.rawValue): \(problem)")
    }
    return 0
}
