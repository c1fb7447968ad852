"""Runs what touches tenants' bytes in unprivileged child processes of the driver.

`spawner` forks them, `sandbox` removes their privileges, `channel` carries calls, and `child`
watches and replaces them. They run `provider_worker` and `parser`; the driver uses them through
`isolated_providers` and `parser_pool`.

Source: docs/adr/0014-isolated-child-processes.md
"""
