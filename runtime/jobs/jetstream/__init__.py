"""Jobs in a NATS JetStream cluster: any number of servers and workers over one stream.

Every server reads the whole stream in its order and keeps what has not ended in memory, on a board
as the broker of one machine has it; every change is a message that takes effect only where nothing
else has changed the job meanwhile. `docs/cluster.md` has the subjects and their contents.
"""
