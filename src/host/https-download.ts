import { MvmError, NotFoundError, OperationError, describeError } from "../domain/errors.ts";
import type { Download, DownloadOptions } from "../ports/download.ts";

/** Downloads with Node's own client, which follows redirects and trusts what NODE_EXTRA_CA_CERTS adds. */
export class HttpsDownload implements Download {
  async *get(url: string, options: DownloadOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const { host } = new URL(url);
    const deadline = AbortSignal.timeout(options.timeoutMs);
    const signal =
      options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline]);
    try {
      const response = await fetch(url, {
        signal,
        headers: {
          "user-agent": "mvm",
          ...(options.accept === undefined ? {} : { accept: options.accept }),
        },
      });
      if (response.status === 404) throw new NotFoundError(`${host} has no ${url}`);
      if (!response.ok || response.body === null) {
        throw new OperationError(`${host} answered ${response.status} for ${url}`, {
          hint: "try again later, or fetch it by hand and build from path:/folder",
        });
      }
      let bytes = 0;
      for await (const chunk of response.body) {
        bytes += chunk.length;
        if (bytes > options.maxBytes) {
          throw new OperationError(`${url} is larger than ${options.maxBytes} bytes`);
        }
        yield chunk;
      }
    } catch (error) {
      if (error instanceof MvmError || options.signal?.aborted === true) throw error;
      if (deadline.aborted) {
        throw new OperationError(`${host} did not send ${url} within ${options.timeoutMs} ms`, {
          cause: error,
        });
      }
      // What fetch rejects with is a TypeError whose cause says why.
      if (!(error instanceof TypeError)) throw error;
      throw new OperationError(`${host} cannot be reached: ${describeError(error.cause)}`, {
        cause: error,
        hint: "check this machine's network, or fetch the flake by hand and build from path:/folder",
      });
    }
  }
}
