"""The cloud backend: Blob Storage, Queue Storage and Cosmos DB behind the ports (docs/adr/0007 and 0008).

`access.AzureAccess` says where the services are and who we are; `stores` makes the adapters. Nothing is imported here:
the SDKs take a second, and a gateway needs only the one for blobs.
"""
