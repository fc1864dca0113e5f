#!/bin/sh
# Puts Ollama into the folder $1/ollama-VERSION, unless the machine has one. Checked against the release's own checksums.
set -eu
version=0.13.5
case $1 in "~/"*) cache=$HOME/${1#"~/"} ;; *) cache=$1 ;; esac
folder=$cache/ollama-$version
releases=https://github.com/ollama/ollama/releases/download/v$version

if command -v ollama >/dev/null; then
    echo "Ollama is on PATH: $(command -v ollama)"
    exit 0
fi
if [ -x "$folder/bin/ollama" ]; then
    echo "Ollama $version is in $folder"
    exit 0
fi
case $(uname -s)-$(uname -m) in
    Linux-x86_64) archive=ollama-linux-amd64.tgz ;;
    Linux-aarch64) archive=ollama-linux-arm64.tgz ;;
    *) echo "Ollama is not on PATH. Install it from https://ollama.com/download and submit again." >&2; exit 1 ;;
esac

mkdir -p "$cache"
draft=$(mktemp -d "$cache/install.XXXXXX")
trap 'rm -rf "$draft"' EXIT
echo "downloading Ollama $version (1 to 2 GB, with its CUDA libraries) ..."
curl -fsSL --retry 5 -o "$draft/$archive" "$releases/$archive"
curl -fsSL --retry 5 -o "$draft/sums" "$releases/sha256sum.txt"
(cd "$draft" && grep "[ /]$archive\$" sums | sed 's# \./# #' | sha256sum -c -)
mkdir "$draft/whole"
tar -xzf "$draft/$archive" -C "$draft/whole"
mv "$draft/whole" "$folder"
echo "Ollama $version installed in $folder"
