// Which release this is.

/// The release that all three executables belong to.
public enum Release {
    /// What `--version`, `/stats` and the log say.
    public static let version = "0.1.0"
}
