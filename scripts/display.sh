# Sourced by the other scripts. find_display BIN sets the array `under_display` to what
# a command has to be run under so that a real window opens, or says what is missing.

debian_packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxkbcommon-x11-0
  libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0
  libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libdbus-1-3 xdotool"
xvfb=(xvfb-run -a -s "-screen 0 1600x1000x24")

# Asks Qt itself: a list of files would miss a display that is set but dead.
opens_a_window() {
  "$@" "$bin/python" "$(dirname "${BASH_SOURCE[0]}")/check_display.py" >/dev/null 2>&1
}

install_line() {
  echo "sudo apt-get update && sudo apt-get install -y" $debian_packages
}

install_packages() {
  command -v apt-get >/dev/null || return 1
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    apt=(sudo -n "${apt[@]}")
  fi
  echo "Installing what a window needs: Xvfb and the GL libraries ..."
  "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends $debian_packages
}

find_display() {
  local bin=$1
  under_display=(env) # an empty array is an error in the bash of macOS
  opens_a_window && return 0
  [ "$(uname)" = Linux ] || return 1
  under_display=("${xvfb[@]}")
  opens_a_window "${xvfb[@]}" && return 0
  install_packages >&2 && opens_a_window "${xvfb[@]}"
}
