"""Generated from federation.proto by scripts/generate_protos.py."""
