#!/usr/bin/env bash
# Run a command so that it can open windows: with_display.sh BIN COMMAND ...
set -euo pipefail
. "$(dirname "$0")/display.sh"
if ! find_display "$1"; then
  echo "No window can be opened here. To install what is missing:" >&2
  install_line >&2
  exit 1
fi
exec "${under_display[@]}" "${@:2}"
