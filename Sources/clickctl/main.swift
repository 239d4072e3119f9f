// clickctl: wiring only.
