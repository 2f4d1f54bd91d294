"""JSON over HTTP: pictures for people with curl, probes, and the REST form of the Open Inference Protocol."""
