"""Lists and watches objects of the Kubernetes API, and caches them."""
