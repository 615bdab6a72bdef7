"""The clients of tests/clients/run, by family. Each module has a list `DRIVERS`."""

from . import command_line, compiled, devices, own_sendmail, php, scripting, transfer_agents, user_agents

FAMILIES = (command_line, user_agents, scripting, php, compiled, transfer_agents, own_sendmail, devices)
DRIVERS = [driver for family in FAMILIES for driver in family.DRIVERS]
