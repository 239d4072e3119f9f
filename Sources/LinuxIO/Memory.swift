// How the process's allocator treats the system's memory.
internal import CLinux

extension CurrentProcess {
    /// Has large blocks go back to the system when they are freed.
    ///
    /// Before any thread starts.
    public static func keepMemorySmall() { clinux_keep_memory_small() }

    /// Gives back what a start or a burst has left behind in the allocator.
    public static func returnUnusedMemory() { clinux_return_memory() }
}
