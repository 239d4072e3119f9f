// clickd-workbench: wiring only.
