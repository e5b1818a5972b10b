# BASE is any image with python3 (3.11 or later) and its venv module: the official Python images, or plain Debian
# with python3 and python3-venv. Both stages use it, so that the environment finds the Python it was made with.
ARG BASE=docker.io/library/python:3.12-slim-bookworm

FROM ${BASE} AS build
COPY . /src
# The environment gets no pip of its own: another one's pip fills it. The root file system may be read-only when
# meshlet runs, so it is compiled now, without the source's time stamps that a layer may round.
RUN python3 -m venv /build \
 && python3 -m venv --without-pip /opt/meshlet \
 && /build/bin/pip --python /opt/meshlet/bin/python install --no-cache-dir --no-compile /src \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/meshlet

FROM ${BASE}
# Some images come without the standard library's compiled files; where they are there, this does nothing.
RUN python3 -m compileall -q -x '/(site|dist)-packages/' "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# 1337 is the user of sidecars: traffic of that user is never redirected back to the proxy.
RUN groupadd --gid 1337 meshlet \
 && useradd --uid 1337 --gid 1337 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin meshlet \
 && install -d -o 1337 -g 1337 /var/log/meshlet
COPY --from=build /opt/meshlet /opt/meshlet
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1337:1337
ENTRYPOINT ["/opt/meshlet/bin/meshlet"]
CMD ["run", "--config", "/etc/meshlet/meshlet.yaml"]
