"""Identity endpoints of a machine: IMDS, Azure Arc, NMI."""
