"""The Kubernetes controller: watches feed one level-triggered pass a job, observe → plan → apply."""
