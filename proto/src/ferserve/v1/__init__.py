"""Messages and stubs of the API `ferserve.v1`, generated from proto/ferserve/v1."""
