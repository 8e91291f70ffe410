/** The most bytes of a certificate, a signing request or a revocation list. */
export const maxPemBytes: number = 256 * 1024;
