# ---------------------------------------------------------------- monitoring and images

.PHONY: tools
tools: ## Fetch Debian's prometheus and promtool into .tools/ (no root).
	@deploy/fetch_prometheus.sh

.PHONY: dashboard
dashboard: ## Write the Grafana dashboard anew from deploy/grafana/rows.py.
	$(BIN)/python deploy/grafana/make_dashboard.py

.PHONY: image-test
image-test: setup ## Build the images without a daemon and try the server's (root, minutes, 8 GB).
	deploy/image_test.sh
