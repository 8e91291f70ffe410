type Given<T> = { readonly [Name in keyof T]?: Exclude<T[Name], undefined> };

/** The fields that are not undefined: what was not asked for is left as it is, or takes its default. */
export function given<T extends object>(fields: {
  readonly [Name in keyof T]?: T[Name] | undefined;
}): Given<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Given<T>;
}
