// clickd: wiring only.
