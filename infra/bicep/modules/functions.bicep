// Flex Consumption plan and the function app, with every setting that the code needs in the cloud.
// Not set, since Flex takes them from functionAppConfig: FUNCTIONS_WORKER_RUNTIME, FUNCTIONS_EXTENSION_VERSION,
// WEBSITE_RUN_FROM_PACKAGE, SCM_DO_BUILD_DURING_DEPLOYMENT.

param planName string

@description('At most 32 characters: the host id is cut there, and two apps with one host id share their timers.')
@maxLength(32)
param appName string
param location string
param tags object

param identityId string
param identityClientId string

param blobEndpoint string
param queueEndpoint string
param tableEndpoint string
param cosmosEndpoint string
param cosmosDatabase string
param insightsConnectionString string

@allowed([
  '3.12'
  '3.13'
])
param pythonVersion string

@allowed([
  512
  2048
  4096
])
param instanceMemoryMb int

@minValue(1)
@maxValue(1000)
param maximumInstances int
param zoneRedundant bool
param alwaysReadyHttp int
param alwaysReadyBlob int
param httpConcurrency int

@description('Subnet delegated to Microsoft.App/environments; empty without private networking.')
param subnetId string

@description('IPv4 addresses or ranges whose requests are answered. Event Grid always is.')
param allowedAddresses array

@description('True: everybody may ask, and only the tokens of the app stand in front of it.')
param openToInternet bool

param candidateRetentionDays int
param detectionRetentionDays int

@description('Models of more people are searched by Cosmos DB. 0: none, and the account needs no vector search.')
param vectorSearchAbove int

@description('Any other FACERELAY_ settings of docs/settings.md, by name.')
param extraSettings object

@secure()
@description('The same for secrets. A value may be a Key Vault reference.')
param secretSettings object

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  //checkov:skip=CKV_AZURE_225:a parameter (zoneRedundant): development does without
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

var warmHttp = alwaysReadyHttp > 0 ? [
  {
    name: 'http'
    instanceCount: alwaysReadyHttp
  }
] : []
var warmBlob = alwaysReadyBlob > 0 ? [
  {
    name: 'blob'
    instanceCount: alwaysReadyBlob
  }
] : []
var fromEventGrid = [
  {
    name: 'event-grid'
    description: 'calls of the blob trigger'
    action: 'Allow'
    priority: 100
    tag: 'ServiceTag'
    ipAddress: 'AzureEventGrid'
  }
]
var fromSites = [for (address, index) in allowedAddresses: {
  name: 'site-${index}'
  action: 'Allow'
  priority: 200 + index
  ipAddress: contains(address, '/') ? address : '${address}/32'
}]

// Not for extraSettings to change: what the host stands on, and that callers show a token.
var hostSettings = {
  FACERELAY_AUTH: 'true'
  FACERELAY_BLOB_TRIGGER_SOURCE: 'eventgrid'
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  AzureWebJobsStorage__blobServiceUri: blobEndpoint
  AzureWebJobsStorage__queueServiceUri: queueEndpoint
  AzureWebJobsStorage__tableServiceUri: tableEndpoint
  CandidateStorage__credential: 'managedidentity'
  CandidateStorage__clientId: identityClientId
  CandidateStorage__blobServiceUri: blobEndpoint
  CandidateStorage__queueServiceUri: queueEndpoint
}

// The weights travel in the package, so that a cold instance downloads nothing: infra/deploy.sh puts them there.
var appSettings = {
  FACERELAY_BACKEND: 'azure'
  FACERELAY_STORAGE_BLOB_URL: blobEndpoint
  FACERELAY_STORAGE_QUEUE_URL: queueEndpoint
  FACERELAY_COSMOS_URL: cosmosEndpoint
  FACERELAY_COSMOS_DATABASE: cosmosDatabase
  FACERELAY_MANAGED_IDENTITY_CLIENT_ID: identityClientId
  FACERELAY_MODEL_CACHE: '/home/site/wwwroot/weights'
  FACERELAY_TRAIN_SCHEDULE: '0 */5 * * * *'
  FACERELAY_GROUP_SCHEDULE: '0 0 3 * * *'
  FACERELAY_CANDIDATE_RETENTION_DAYS: string(candidateRetentionDays)
  FACERELAY_DETECTION_RETENTION_DAYS: string(detectionRetentionDays)
  FACERELAY_VECTOR_SEARCH_ABOVE: string(vectorSearchAbove)
}

var settings = union(appSettings, extraSettings, secretSettings, hostSettings)

resource app 'Microsoft.Web/sites@2024-04-01' = {
  //checkov:skip=CKV_AZURE_222:Event Grid calls the blob trigger from outside any network; ipSecurityRestrictions deny all others
  //checkov:skip=CKV_AZURE_17:gateways and Event Grid have no client certificates; the app checks its own tokens
  //checkov:skip=CKV_AZURE_212:Flex Consumption has no fixed number of instances; alwaysReady is a parameter
  //checkov:skip=CKV_AZURE_213:Flex Consumption replaces instances by itself; /health is for people and the smoke test
  name: appName
  location: location
  tags: union(tags, {
    'azd-service-name': 'api'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobEndpoint}deployments'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: pythonVersion
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMb
        maximumInstanceCount: maximumInstances
        alwaysReady: concat(warmHttp, warmBlob)
        triggers: {
          http: {
            perInstanceConcurrency: httpConcurrency
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      ftpsState: 'Disabled'
      appSettings: [for setting in items(settings): {
        name: setting.key
        value: setting.value
      }]
      ipSecurityRestrictionsDefaultAction: openToInternet ? 'Allow' : 'Deny'
      ipSecurityRestrictions: concat(fromEventGrid, fromSites)
    }
  }
}

resource noFtp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource noPublishingPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

output id string = app.id
output name string = app.name
output hostName string = app.properties.defaultHostName
