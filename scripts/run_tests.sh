#!/usr/bin/env bash
# Run the tests, the GUI ones under Xvfb where there is no display:
# run_tests.sh BIN [PYTEST ARGUMENTS ...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/display.sh
bin=$1
shift
# One test a core, each with one thread: several threads a test would be in each
# other's way. Four at most, for each takes up to a gigabyte.
export OMP_NUM_THREADS=1
pytest=("$bin/python" -m pytest -n auto --maxprocesses 4 --dist loadgroup)
if find_display "$bin"; then
  exec "${under_display[@]}" "${pytest[@]}" "$@"
fi
if [ "${CI:-}" = true ]; then
  echo "No window can be opened, and under CI no test may be left out." >&2
  install_line >&2
  exit 1
fi
status=0
"${pytest[@]}" -p no:pytest-qt "$@" || status=$?
echo
echo "Left out, because no window can be opened here:"
for file in $(grep -rl "def test_" tests --include='test_*.py' | sort); do
  case $file in
    tests/widgets/*) echo "  $file" ;;
    *) ! grep -qE '^ *(pytestmark = |@)pytest\.mark\.gui' "$file" ||
      echo "  $file (those marked gui)" ;;
  esac
done
echo "To run them too, install what is missing, then run make test again:"
echo "  $(install_line)"
exit "$status"
