# ---------------------------------------------------------------- monitoring and images

.PHONY: tools
tools: dev ## Fetch prometheus, promtool, helm and kubectl into .tools/ (no root).
	@deploy/fetch_prometheus.sh
	@PYTHON=$(BIN)/python deploy/fetch_helm.sh

.PHONY: manifests
manifests: tools ## Render the Helm chart with its defaults into deploy/kubernetes/ferserve.yaml.
	.tools/bin/helm template ferserve deploy/helm/ferserve > deploy/kubernetes/ferserve.yaml

.PHONY: dashboard
dashboard: ## Write the Grafana dashboard again from deploy/grafana/*_rows.py.
	$(BIN)/python deploy/grafana/make_dashboard.py

.PHONY: image-test
image-test: setup ## Build the images without a daemon and try the server's (root, minutes, 8 GB).
	deploy/image_test.sh

# Ray needs an environment of its own; the servers that it starts come from .venv.
.ray/.ready: requirements/ray.lock deploy/ray/pyproject.toml proto/pyproject.toml
	$(subst $(VENV),.ray,$(MAKE_VENV))
	$(subst $(VENV),.ray,$(INSTALL)) --require-hashes -r requirements/ray.lock
	$(subst $(VENV),.ray,$(INSTALL)) --no-deps --no-build-isolation -e ./proto -e ./deploy/ray
	@touch $@

.PHONY: ray-env
ray-env: .ray/.ready ## Make .ray with Ray and ferserve-ray.

.PHONY: registry-tool
registry-tool: ## Fetch docker-registry into .tools/ (no root).
	@deploy/fetch_registry.sh

.PHONY: test-scale
test-scale: dev tools browser-tools registry-tool ray-env ## Run several servers: behind Envoy, on a Ray cluster; restarts under load (minutes).
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(BIN)/python -m pytest -m scale tests/scale $(PYTEST_FLAGS)

.PHONY: bench-restarts
bench-restarts: dev ## Measure ten rolling restarts of three servers behind Envoy (7 minutes); writes benchmarks/results/rolling_restarts.json.
	$(BIN)/python benchmarks/rolling_restarts.py

.PHONY: capacity
capacity: dev ## Compute what many cameras need and simulate queues; writes docs/scaling.md.
	$(BIN)/python benchmarks/capacity.py
