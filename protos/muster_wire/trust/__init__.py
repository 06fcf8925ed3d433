"""Who a peer is, and how it proves it: identities, a job's own authority, certificates, join bundles, key files.

Flow: `authority` makes a job's CA, its server certificate and `bundle`s for batch jobs → a worker makes a key of its
own and has it certified over the wire → the server reads each caller's `certificate` into an `identity` → what that
identity may do is the coordinator's affair. `files` reads and writes all of it with errors that name file and remedy.

The only part of this package that needs `cryptography`; nothing outside it imports it.
"""
