"""The embedded host: runs any `azure.functions.FunctionApp` on one machine with the platform's semantics.

| module | what it does |
|---|---|
| `index` | reads the app's functions and their triggers |
| `hostjson` | the limits of host.json |
| `http` | HTTP triggers, as an ASGI app |
| `backend` | what it runs over: the embedded store, or a storage account |
| `inbox` | blob triggers: a function's queue, and the blobs that its messages speak of |
| `feeds`, `events` | who fills that queue: the change feed, a scan of the container, or Event Grid |
| `listener`, `ledger` | queue messages: taking, renewing, retrying, poisoning; what is known of each delivery |
| `poison` | what ended in the poison queues: list, replay, drop |
| `timers` | timer triggers |
| `serve` | all of it, from the first lock to the last signal |

The rules, and where they differ from the cloud's, are in docs/adr/0006.
"""
