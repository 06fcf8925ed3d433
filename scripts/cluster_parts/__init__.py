"""A real Kubernetes on this machine, without Docker: the control plane, and nodes that run pods where they are wanted.

What tests/cluster runs against where no other cluster is given. `programs` finds or builds the binaries,
`certificates` makes keys, `control_plane` says what to run with which flags, `processes` starts and stops it, `state`
remembers it between commands, `site` brings both halves up, and `lifecycle` composes them into up, down and status.

Nodes: `addresses` names everything, `namespaces` and `cgroups` give each node a view and a group of its own,
`node_files` and `node_objects` say what it is configured with, `images` brings images in, and `nodes` composes them.
"""
