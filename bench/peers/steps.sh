# The steps that the peers have in common. Sourced; run in an empty folder.
# Afterwards store/ holds what is served and data/ what was unpacked, laid out as our own mirror does.
set -euo pipefail

# discover URL: the listings of all products and filesets into store/, and the files they name into ./files,
# one a line: path, bytes, md5.
discover() {
    mkdir -p store data
    wget -q -O store/index.txt "$1/index.txt"
    rows store/index.txt | sed "s,.*,$1/&/index.txt," | fetch
    for product in $(rows store/index.txt); do
        rows "store/$product/index.txt" | sed "s,.*,$1/$product/&/index.txt,"
    done | fetch
    (cd store && find . -mindepth 3 -name index.txt -printf '%P\n' | sort | xargs awk -F '|' '
        !/^#/ && NF > 3 { gsub(/ /, ""); print substr(FILENAME, 1, length(FILENAME) - 9) $1, $2, $3 }') > files
}

# rows LISTING: the names in its first column.
rows() {
    awk -F '|' '!/^#/ && NF > 1 { gsub(/ /, "", $1); print $1 }' "$1"
}

# fetch: the URLs on standard input into store/, by eight wget at once that keep their connections.
fetch() {
    cat > urls
    local share=$((($(wc -l < urls) + 7) / 8))
    (cd store && xargs -r -P 8 -n "$((share ? share : 1))" wget -q -x -nH --cut-dirs=1 < ../urls)
}

# verify: the md5 of everything that was listed.
verify() {
    (cd store && awk '{ print $3 "  " $1 }' ../files | md5sum -c --quiet -)
}

# unpack: every bundle into data/PRODUCT/FILESET/COMPONENT, by one tar per core.
unpack() {
    awk '$1 ~ /\.tgz$/ { print $1 }' files | xargs -r -P "$(nproc)" -n 12 sh -ec '
        for bundle; do
            fileset=${bundle%/*} component=${bundle%.tgz}
            folder=data/$fileset/${component##*.}
            mkdir -p "$folder"
            tar -xzf "store/$bundle" -C "$folder"
        done' sh
}
