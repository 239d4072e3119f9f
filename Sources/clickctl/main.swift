// clickctl: wiring only.
import OperatorCommands

OperatorTool.run()
