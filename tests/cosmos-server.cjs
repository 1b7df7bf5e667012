// The Cosmos DB server from npm, with one of its faults mended: a point read of a document that is not there ends in
// a TypeError (500) in version 1.0.1, lib/handler/read-document.js, where the service answers 404. Reads that say they
// may cross partitions take another path through that handler, which is right.
"use strict";

const { createHttpServer } = require("@vercel/cosmosdb-server");

const server = createHttpServer();
const [handle] = server.listeners("request");
server.removeAllListeners("request");
server.on("request", (request, response) => {
  if (request.method === "GET") request.headers["x-ms-documentdb-query-enablecrosspartition"] = "true";
  handle(request, response);
});
server.listen(Number(process.argv[2]), "127.0.0.1");
