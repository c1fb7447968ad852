"""The node daemon, in the order in which a publish meets its modules.

settings, daemon, csi, request, publish, spc, plan, mounts, plugins, atomic, podstatus; beside them
sync, k8s_secret and events for the Kubernetes Secrets.
"""
