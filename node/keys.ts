// Owns the form of keys that end in a number: in each database they sort as their numbers do.

/** The key of a record under a prefix that ends in '/'. */
export function numberedKey(prefix: string, number: number): string {
  return `${prefix}${String(number).padStart(16, '0')}`;
}

/** Where the range of all keys under such a prefix ends. */
export function endOf(prefix: string): string {
  return `${prefix.slice(0, -1)}0`;
}
