"""What travels between a worker and its coordinator: messages, layouts, payloads, codecs, frames, checksums, versions.

Flow: a model's tensors → `values` (flat buffers in a `layout`) → `payload` (bytes, by a codec) → `frames` → the peer,
and back. Bytes from a peer are hostile until `payload.check` and `frames.Reassembly` have seen them; docs/wire.md
describes every byte.
"""
