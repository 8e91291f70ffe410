import {
  type CertificateSubject,
  type KeyAndCertificate,
  issueWithNewKey,
  makeCa,
} from "../../src/host/pki.ts";
import type { TransportIdentity } from "../../src/ports/transport.ts";

const dayMs = 86_400_000;

/** A CA for a test, and the identities it issues. */
export class TestCa {
  readonly ca: KeyAndCertificate;

  private constructor(ca: KeyAndCertificate) {
    this.ca = ca;
  }

  static async make(name = "test CA"): Promise<TestCa> {
    return new TestCa(await makeCa(name, Date.now()));
  }

  async issue(
    subject: CertificateSubject,
    options: { lifeMs?: number; nowMs?: number; revoked?: ReadonlySet<string> } = {},
  ): Promise<TransportIdentity> {
    const { lifeMs = dayMs, nowMs = Date.now(), revoked = new Set<string>() } = options;
    return {
      ...(await issueWithNewKey(subject, this.ca, nowMs, lifeMs)),
      caPem: this.ca.certificatePem,
      revoked,
    };
  }
}
