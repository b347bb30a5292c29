#!/bin/bash
# wget URL: eight at once, then md5sum, then one tar per core.
. "$(dirname "$0")/steps.sh"
discover "$1"
awk -v url="$1" '{ print url "/" $1 }' files | fetch
verify
unpack
