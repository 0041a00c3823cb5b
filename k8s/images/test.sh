#!/usr/bin/env bash
# Starts an image as the cluster does: another user than root, a read-only root, no capabilities, only /tmp writable.
#   k8s/images/test.sh IMAGE SERVICE
set -euo pipefail
image=$1 service=$2

[ "$(docker inspect --format '{{.Config.User}}' "$image")" = 10001:10001 ] || { echo "$image runs as root" >&2; exit 1; }
harden=(--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)

if [ "$service" = orchestration ]; then
    docker run --rm "${harden[@]}" "$image" python -c 'import dagster_k8s, orchestration.definitions'
    exit
fi

case $service in
gateway | filter | features) docker run --rm "${harden[@]}" "$image" python -c '
import importlib.util as u
found = [name for name in ("torch", "faiss") if u.find_spec(name)]
assert not found, f"{found} have nothing to do in this image"' ;;
esac

container=$(docker run --detach "${harden[@]}" "$image")
trap 'docker rm --force "$container" >/dev/null' EXIT
for _ in $(seq 60); do
    if docker exec "$container" python /opt/cascade/healthcheck.py 2>/dev/null; then
        # without a store there is nothing to serve: up, and not ready
        docker stop --time 30 "$container" >/dev/null
        status=$(docker inspect --format '{{.State.ExitCode}}' "$container")
        [ "$status" = 0 ] || [ "$status" = 143 ] || { docker logs "$container"; echo "$image ended with $status" >&2; exit 1; }
        exit
    fi
    sleep 1
done
docker logs "$container"
echo "$image does not answer /healthz" >&2
exit 1
