# Writes $size MiB that depend on name and version alone, compress about as well as programs do, and name the packages that
# they need again and again, as programs do.
folder="$out/lib/$name"
mkdir -p "$folder"
seed=$(printf '%s' "$name-$version" | sha256sum | cut -c 1-7)
part=0
while [ "$part" -lt "$size" ]; do
  awk -v seed="$((0x$seed + part + 1))" -v needs="${needs:-}" 'BEGIN {
    modulus = 2147483647
    for (i = 0; i < 2048; i++) {
      word = ""
      for (j = 0; j < 3; j++) { seed = (seed * 48271) % modulus; word = word sprintf("%07x", seed / 8) }
      words[i] = word
    }
    count = split(needs, need, " ")
    for (line = 0; line < 29127; line++) {
      seed = (seed * 48271) % modulus; first = seed
      seed = (seed * 48271) % modulus
      printf "%07x%s%07x\n", first / 8, words[first % 2048], seed / 8
      if (count && line % 911 == 0) print "needs " need[line % count + 1]
    }
  }' > "$folder/part-$part"
  part=$((part + 1))
done
mkdir -p "$out/share/$name"
echo "$version" > "$out/share/$name/version"
