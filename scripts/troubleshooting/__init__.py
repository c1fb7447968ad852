"""The page docs/operations/troubleshooting.md, made of the error tree and a template."""
