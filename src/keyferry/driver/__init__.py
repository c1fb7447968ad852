"""The node daemon: CSI calls, volumes, rotation, Kubernetes Secrets and pod statuses.

A publish passes through csi, request, publish.publisher, publish.planner, publish.delivery, the
provider, volumes.mounter and volumes.atomic_writer. `engine` connects everything else to it.
"""
