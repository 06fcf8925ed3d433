"""A real Kubernetes control plane on this machine: etcd, API server, controller manager and scheduler, without Docker.

What tests/cluster runs against where no other cluster is given. `programs` finds or builds the binaries,
`certificates` makes keys, `control_plane` says what to run with which flags, `processes` starts and stops it, `state`
remembers it between commands, and `lifecycle` composes them into up, down and status. Nodes (kubelet, containerd) are
to join as one more module beside `control_plane`.
"""
