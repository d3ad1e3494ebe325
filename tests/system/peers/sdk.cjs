// SPDX-License-Identifier: Apache-2.0
//
// The stock SDKs on a container or bucket: `list` prints each object below a prefix with its size and SHA-256, as JSON; `put` writes a file
// in the SDK's own way. Arguments: azure|s3 ENDPOINT CONTAINER list PREFIX | put NAME FILE. The account or key id and the secret come in the
// environment (SDK_ID, SDK_SECRET, SDK_REGION).
const crypto = require("node:crypto");
const fs = require("node:fs");

const sha256 = (stream) =>
  new Promise((resolve, reject) => {
    const hash = crypto.createHash("sha256");
    stream.on("data", (piece) => hash.update(piece));
    stream.on("end", () => resolve(hash.digest("hex")));
    stream.on("error", reject);
  });

function azure(endpoint, container) {
  const { BlobServiceClient, StorageSharedKeyCredential } = require("@azure/storage-blob");
  const key = new StorageSharedKeyCredential(process.env.SDK_ID, process.env.SDK_SECRET);
  const client = new BlobServiceClient(endpoint, key).getContainerClient(container);
  return {
    async *list(prefix) {
      for await (const blob of client.listBlobsFlat({ prefix })) {
        const { readableStreamBody } = await client.getBlobClient(blob.name).download();
        yield { name: blob.name, bytes: blob.properties.contentLength, sha256: await sha256(readableStreamBody) };
      }
    },
    // In blocks of 4 MiB when the file is larger.
    put: (name, file) =>
      client.getBlockBlobClient(name).uploadFile(file, { blockSize: 4 << 20, maxSingleShotSize: 4 << 20 }),
  };
}

function s3(endpoint, bucket) {
  const { S3Client, ListObjectsV2Command, GetObjectCommand, PutObjectCommand } = require("@aws-sdk/client-s3");
  const client = new S3Client({
    endpoint,
    region: process.env.SDK_REGION,
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId: process.env.SDK_ID, secretAccessKey: process.env.SDK_SECRET },
  });
  return {
    async *list(prefix) {
      for (let token; ; ) {
        const page = await client.send(
          new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 2, ContinuationToken: token }),
        );
        for (const { Key, Size } of page.Contents ?? []) {
          const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
          yield { name: Key, bytes: Size, sha256: await sha256(Body) };
        }
        if (!(token = page.NextContinuationToken)) return;
      }
    },
    put: (name, file) =>
      client.send(new PutObjectCommand({ Bucket: bucket, Key: name, Body: fs.readFileSync(file), IfNoneMatch: "*" })),
  };
}

async function main([service, endpoint, container, verb, ...rest]) {
  const store = { azure, s3 }[service](endpoint, container);
  if (verb === "put") return store.put(...rest);
  const found = [];
  for await (const object of store.list(rest[0])) found.push(object);
  console.log(JSON.stringify(found));
}

main(process.argv.slice(2)).catch((problem) => {
  console.error(`${problem.name}: ${problem.message}`);
  process.exit(1);
});
