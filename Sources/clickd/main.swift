// clickd, the click-tracking edge. Wiring only: what each part does is in its own module.
internal import ArgumentParser
internal import LinuxIO

// Before any thread starts: signals are read from a descriptor, and SIGPIPE is an error of send(2).
Signals.blockAll()
CurrentProcess.keepMemorySmall()
ClickdCommand.main()
