"""Runs each loaded version in a process of its own (docs/adr/0019).

The server's side: `loader` starts processes and hands out `servable`s, `runner` runs batches on them, `revival`
brings one back that was lost. The other side, in the new process: `worker`. Between them: `requests` and the rooms
of `interprocess`.
"""
