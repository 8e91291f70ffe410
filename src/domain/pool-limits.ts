// Apart from the schema of a pool, so that the command line knows its bounds without loading that.

/** Of each kind of instance a pool may want. */
export const maxDesiredCount = 100;
