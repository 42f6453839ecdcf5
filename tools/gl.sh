#!/usr/bin/env bash
# Rendering without a display needs EGL or OSMesa. Installs them where that needs no password; says how where it
# does; never fails, because everything but images works without them. `prudence doctor` then draws a frame.
set -u

present() { .venv/bin/python -c "import ctypes, sys; ctypes.CDLL(sys.argv[1])" "$1" 2>/dev/null; }
present libOSMesa.so.8 || present libOSMesa.so || present libEGL.so.1 && exit 0

install="apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri"
say() { echo "No EGL or OSMesa: rendering will not work. $1"; exit 0; }

command -v apt-get >/dev/null || say "Install libEGL or libOSMesa with your package manager."
if [ "$(id -u)" = 0 ]; then become=""
elif sudo -n true 2>/dev/null; then become="sudo -n"
else say "Run once: sudo $install libosmesa6"; fi

echo "Installing EGL and OSMesa for rendering without a display"
export DEBIAN_FRONTEND=noninteractive
$become apt-get update -qq >/dev/null 2>&1
# Newer distributions no longer have OSMesa; EGL alone is enough there.
$become $install >/dev/null 2>&1
$become apt-get install -y --no-install-recommends libosmesa6 >/dev/null 2>&1
present libOSMesa.so.8 || present libOSMesa.so || present libEGL.so.1 || say "Run once: sudo $install libosmesa6"
exit 0
