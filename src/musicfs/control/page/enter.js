// The first page that `musicfs page` opens: stores the token for this tab, and opens the status page.

import { saveToken } from "./api.js";

saveToken(document.querySelector("meta[name=musicfs-token]").content);
location.replace("/");
