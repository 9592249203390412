"""Serves plugin classes to kernels in other processes, as the services of proto/deepgen/v1 say."""
