// Owns which parts of a task's log are kept, pure: its beginning and its end, and what lies between goes when the log has
// grown too large.

/** A part of a log as it was written: lines `first` to `first + count - 1`. */
export interface Chunk {
  readonly first: number;
  readonly count: number;
  readonly bytes: number;
}

/** The chunks to remove so that at most bytesMax stay: the oldest that are not wholly among the first headBytesMax. */
export function chunksToCut(chunks: readonly Chunk[], bytesMax: number, headBytesMax: number): readonly Chunk[] {
  let excess = chunks.reduce((sum, chunk) => sum + chunk.bytes, 0) - bytesMax;
  const cut: Chunk[] = [];
  let headBytes = 0;
  for (const chunk of chunks.slice(0, -1)) {
    if (excess <= 0) break;
    headBytes += chunk.bytes;
    if (headBytes <= headBytesMax) continue;
    cut.push(chunk);
    excess -= chunk.bytes;
  }
  return cut;
}

/** Where reading goes on from line number `from`: the chunk that holds it or the first behind it, and how many lines were cut before. */
export function chunkAt(
  chunks: readonly Chunk[],
  from: number,
): { readonly chunk: Chunk; readonly cutLines: number } | undefined {
  const chunk = chunks.find(({ first, count }) => first + count > from);
  return chunk === undefined ? undefined : { chunk, cutLines: Math.max(0, chunk.first - from) };
}
