// The health check of the mongo service: makes the replica set of one the first time, and ends with 0
// only when its primary takes writes.
//
// While the image sets itself up it runs a server of its own without users and without a replica set: the
// log-in or `rs.initiate` fails there, which is the right answer.
const admin = db.getSiblingDB("admin");
admin.auth(process.env.MONGO_INITDB_ROOT_USERNAME, process.env.MONGO_INITDB_ROOT_PASSWORD);
let hello = admin.hello();
if (!hello.setName) {
  try {
    rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
  } catch (error) {
    if (error.codeName !== "AlreadyInitialized") throw error;
  }
  hello = admin.hello();
}
if (hello.setName !== "rs0" || !hello.isWritablePrimary) {
  print(`no primary yet: ${JSON.stringify({ setName: hello.setName, isWritablePrimary: hello.isWritablePrimary })}`);
  quit(1);
}
