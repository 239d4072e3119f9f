// attributiond: wiring only.
