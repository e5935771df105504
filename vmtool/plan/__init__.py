"""What to do, before anything is done: actions, steps and plans.

Every action prints as the shell line that it amounts to, so a plan is also a runbook, and every action can be written
to the journal and read back. Nothing here touches the machine: an action is done on a `vmtool.machine.Host`.
"""

from vmtool.machine import Pairs
from vmtool.plan.action import Action, action_from_json, kind_of, to_json
from vmtool.plan.daemons import RecordPid, StartDaemon, StopDaemon
from vmtool.plan.files import CopySecret, MakeDir, Remove, WriteFile
from vmtool.plan.programs import Expect, Run, RunEither
from vmtool.plan.runbook import plan_lines, shell_lines
from vmtool.plan.step import Plan, Step
from vmtool.plan.workers import RunWorker, question, run_worker

__all__ = ["Action", "CopySecret", "Expect", "MakeDir", "Pairs", "Plan", "RecordPid", "Remove", "Run", "RunEither",
           "RunWorker", "StartDaemon", "Step", "StopDaemon", "WriteFile", "action_from_json", "kind_of", "plan_lines",
           "question", "run_worker", "shell_lines", "to_json"]
