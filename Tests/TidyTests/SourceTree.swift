// The tree that the tidy tests read: files by folder, line by line.
import LinuxIO

/// The checkout under test: `$CLICKD_ROOT`, else found upwards from this file.
enum SourceTree {
    static let root: String = {
        if let root = CurrentProcess.environment("CLICKD_ROOT") { return root }
        var path = #filePath
        while path.count > 1, !FileSystem.exists("\(path)/Package.swift") {
            path = FileSystem.directory(of: path)
        }
        return path
    }()

    /// Files below a folder of the tree whose names end so, as paths from the root.
    static func files(_ folder: String, endingIn suffixes: [String]) -> [String] {
        guard let names = try? FileSystem.list("\(root)/\(folder)") else { return [] }
        return names.flatMap { name -> [String] in
            let path = "\(folder)/\(name)"
            guard let status = try? FileSystem.status("\(root)/\(path)") else { return [] }
            if status.isDirectory { return files(path, endingIn: suffixes) }
            return suffixes.contains { name.hasSuffix($0) } ? [path] : []
        }
    }

    static func text(_ path: String) -> String {
        let bytes = (try? FileSystem.read("\(root)/\(path)")) ?? []
        return String(decoding: bytes, as: UTF8.self)
    }

    static func lines(_ path: String) -> [Substring] {
        text(path).split(separator: "\n", omittingEmptySubsequences: false)
    }

    static var swiftSources: [String] { files("Sources", endingIn: [".swift"]) }
    static var swiftFiles: [String] { swiftSources + files("Tests", endingIn: [".swift"]) }
}
